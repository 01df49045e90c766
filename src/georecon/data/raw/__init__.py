"""Raw files arrive and are checked: download, lock file, archives."""
