"""What serves: the process, its workers, sockets, settings and logs."""
