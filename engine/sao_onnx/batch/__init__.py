"""From a list of requests to a clip for each line: here, on parts of the lines, or on the machines of a cluster."""
