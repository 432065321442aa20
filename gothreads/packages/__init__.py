"""Python packages made of Go packages: `gothreads stubs` writes them."""
