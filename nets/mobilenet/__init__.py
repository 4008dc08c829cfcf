"""MobileNet V2 and V3, and what builds them."""
