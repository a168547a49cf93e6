"""Small programs that try one library for real. Each prints one line and ends with 0, or fails."""
