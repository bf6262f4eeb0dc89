"""When every op of a program happens: a readable engine and a compiled one with the same meaning."""
