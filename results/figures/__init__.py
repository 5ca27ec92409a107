"""The figures, one module each: the frame of their data, made from runs on disk, and how it is drawn."""
