"""When every op of a program happens: a readable engine and a fast one, one meaning."""
