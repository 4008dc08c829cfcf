"""The networks that architecture search found: NASNet-A and PNASNet-5."""
