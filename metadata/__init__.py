"""What the cluster is: brokers, topics, replicas, leaders, in-sync sets, configs, ids. Pure."""
