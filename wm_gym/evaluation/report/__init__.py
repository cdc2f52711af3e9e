"""How is a trust report written? From the measurements of a world to one HTML file."""
