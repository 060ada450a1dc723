"""What answers for one policy: a remote server, several replicas, or an engine in this process."""
