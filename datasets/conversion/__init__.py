"""Conversion of images into TFRecord shards of TF-Slim's layout.

A *source* (`sources.SOURCES`, a row each) reads a folder into a `collection.Collection`: which images there are, with
which labels, in which split and order. `convert.convert` writes a collection into shards; what happens to one image is
`images.convert_image`. A shard depends on its items and on the options alone, so shards can be written in any order, by
any number of workers, on any engine, and again.
"""
