"""All Inception networks under one name, as in TF-Slim."""
from nets.inception_v1 import inception_v1, inception_v1_arg_scope, inception_v1_base

__all__ = ['inception_v1', 'inception_v1_arg_scope', 'inception_v1_base']
