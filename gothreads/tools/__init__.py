"""Commands for those who compare and stress the designs."""
