"""Messages between nodes and records of the metadata log, generated from the `.proto` files beside this one."""
