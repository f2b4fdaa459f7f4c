"""What is written: the graphs of each precision, the manifest, and the folder that holds them."""
