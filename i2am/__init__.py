"""Attribution maps for image-to-image diffusion. The operator lives in `i2am_kernels`; the tracer that installs it comes here."""
