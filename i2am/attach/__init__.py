"""How the recorder gets into models: one file for the seam, one per family of attention modules; each only translates."""
