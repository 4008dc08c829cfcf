# Two commands for a newcomer; both make the environment in .venv first, with nothing but Python 3.10 to 3.13 needed.
#
#   make train   trains Inception V1 on the embedded digits and evaluates it
#   make test    runs the tests

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
EXTRAS := test$(shell nvidia-smi >/dev/null 2>&1 && echo ,gpu)

.PHONY: train test

train: .venv/ready
	.venv/bin/python train_image_classifier.py
	.venv/bin/python eval_image_classifier.py
	@echo 'The network is in runs/digits. To train on images of your own, in a folder for each class:'
	@echo '  .venv/bin/python train_image_classifier.py --dataset_name=image_folder --dataset_dir=DIR \'
	@echo '      --model_name=inception_v1 --train_dir=runs/mine'

test: .venv/ready
	.venv/bin/python -m pytest -n 2

.venv/ready: setup.py
	@test -n "$(PYTHON)" || { echo 'Python 3.10 to 3.13 with its venv module is needed; name it: make $(MAKECMDGOALS) PYTHON=...'; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@
