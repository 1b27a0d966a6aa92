"""What `python -m bench hub` measures, one row of the hub's table a module."""
