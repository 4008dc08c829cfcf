"""OverFeat: Sermanet and others, arXiv:1312.6229: the fast model, Table 1.

Default size 231x231, inputs with the mean colour subtracted (preprocessing `vgg`). There are no published weights.
"""

import tf_slim_compat  # noqa: F401
from nets import alexnet, vgg
from nets.table import conv, max_pool

overfeat_arg_scope = vgg.vgg_arg_scope

ROWS = [                                                                        # output for 231x231
    ('conv1', conv(64, 11, stride=4, padding='VALID')),                         # 56x56x64
    ('pool1', max_pool(2, stride=2, padding='VALID')),                          # 28x28x64
    ('conv2', conv(256, 5, padding='VALID')),                                   # 24x24x256
    ('pool2', max_pool(2, stride=2, padding='VALID')),                          # 12x12x256
    ('conv3', conv(512, 3)),                                                    # 12x12x512
    ('conv4', conv(1024, 3)),                                                   # 12x12x1024
    ('conv5', conv(1024, 3)),                                                   # 12x12x1024
    ('pool5', max_pool(2, stride=2, padding='VALID')),                          # 6x6x1024
    *vgg.fully_connected_rows((3072, 4096), 6, **alexnet.FULLY_CONNECTED),      # 1x1x3072, 1x1x4096
]

overfeat, overfeat_base = alexnet.network('overfeat', ROWS, 231)
