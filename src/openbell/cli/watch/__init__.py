"""What `openbell watch` is made of: looking (sources), one document, its lines, the terminal."""
