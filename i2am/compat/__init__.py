"""Other projects' interfaces over our maps: the paper's release (`i2am_release`) and DAAM (`daam`); change the import, keep the script."""
