"""The mesh, from what the catalog says to what a worker needs; pure."""
