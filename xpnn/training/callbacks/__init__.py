"""What watches the loop and acts at its seams."""
