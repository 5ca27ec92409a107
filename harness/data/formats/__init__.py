"""File formats, one a module; `harness.data.formats.read` finds and reads the files of a data set."""
