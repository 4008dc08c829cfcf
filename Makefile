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
	@echo
	@echo 'Inception V1 has learnt to read handwritten digits: checkpoints, settings and results are in runs/digits.'
	@echo 'Next, with images of your own in a folder for each class (README.md says more):'
	@echo '  .venv/bin/python train_image_classifier.py --dataset_name=image_folder --dataset_dir=FOLDER --train_dir=runs/mine \'
	@echo '      --model_name=inception_v1 --train_image_size=128 --optimizer=adam --opt_epsilon=1e-7 --learning_rate=0.001 \'
	@echo '      --max_number_of_steps=2000'
	@echo '  .venv/bin/python eval_image_classifier.py --checkpoint_path=runs/mine'

test: .venv/ready
	.venv/bin/python -m pytest -n 2

.venv/ready: setup.py
	@test -n "$(PYTHON)" || { echo 'Python 3.10 to 3.13 with its venv module is needed; name it: make $(MAKECMDGOALS) PYTHON=...'; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@
