"""What an edition runs, as a function of YAML: config, methods, data, runs, tables, plan."""
