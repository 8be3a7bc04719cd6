"""The embedded demo data: drawn objects on textured backgrounds, with simulated clicks."""
