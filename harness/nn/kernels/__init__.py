"""Functions with gradients by hand, each beside a short plain form under autograd that says what it computes.

Models call the function; `switch` chooses the form. Both take the same dropout masks, so that they agree up to
rounding. On a device that is not the CPU torch's own kernels take their place where there are any, with masks of their
own.
"""
