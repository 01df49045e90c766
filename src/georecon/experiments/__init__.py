"""What an edition runs, as a function of YAML: config, runs, cells, plan."""
