"""Looking at a host: one function per fact, each bounded in time, none of which raises. What facts mean is `diagnose`'s."""
