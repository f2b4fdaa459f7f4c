"""The networks of the model as torch modules, with the parameter names and the arithmetic of the released checkpoint."""
