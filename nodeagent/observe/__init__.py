"""What the world learns: one log line per connection, metrics, and the connections that ended lately."""
