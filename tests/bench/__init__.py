"""What `script/bench` measures: a module for each kind."""
