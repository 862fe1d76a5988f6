"""HTTP/1.1 in the data plane: requests are decided one by one, and written anew on connections to instances."""
