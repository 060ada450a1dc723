"""What answers for one policy: a remote server, several replicas of it, or an engine driven from this process."""
