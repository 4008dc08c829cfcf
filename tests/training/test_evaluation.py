"""The evaluation, whole: figures, tables, answers for each image, several checkpoints, and waiting for new ones."""
import csv
import dataclasses
import json
import os
import shutil
import signal
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from sklearn import metrics as theirs

import eval_image_classifier
import nets
import train_image_classifier
from nets import checkpoints, registry
from nets.weights import published
from training import evaluation
from training.config import ConfigError, EvalConfig, eval_config
from training.console import Interrupted, RunError
from training.data import evaluation_batches, held_out

STEPS = (20, 40, 60)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A LeNet that has learnt the digits somewhat, and what it was at two steps before."""
    folder = tmp_path_factory.mktemp('trained')
    assert train_image_classifier.main([
        'train', '--model_name=lenet', '--dataset_name=digits', '--train_image_size=16', '--optimizer=adam',
        '--opt_epsilon=1e-7', '--learning_rate=0.003', '--learning_rate_decay_type=fixed', '--max_number_of_steps=60',
        '--moving_average_decay=0.9', '--save_interval_steps=20', f'--train_dir={folder}']) == 0
    return folder


@pytest.fixture(scope='module')
def run(trained, tmp_path_factory):
    """Its results at the last step, and what was answered for each image."""
    folder = tmp_path_factory.mktemp('run')
    assert eval_image_classifier.main(['eval', f'--checkpoint_path={trained}', f'--eval_dir={folder}',
                                       f'--predictions={folder}/answers.csv', '--noreport']) == 0
    with open(folder / 'answers.csv', encoding='utf-8', newline='') as file:
        return json.loads((folder / 'eval_results.json').read_text()), list(csv.DictReader(file))


@pytest.fixture(scope='module')
def probabilities(trained):
    """Float32 [360, 10], of the network that has the moving averages for its weights."""
    config = eval_config({'checkpoint_path': str(trained), 'batch_size': 360})
    model, reader = nets.create_model('lenet', 10, image_size=16, channels=1), checkpoints.Reader(
        str(trained / 'model.ckpt-60'))
    for name, variable in model.by_name.items():
        variable.assign(reader.value(f'{name}/ExponentialMovingAverage'))
    (images, labels), = evaluation_batches(config, held_out(config), 16)
    return tf.nn.softmax(model(images[:, 0])).numpy(), labels.numpy()


def evaluated(path, eval_dir, said=None, **given):
    return evaluation.evaluate(
        eval_config({'checkpoint_path': str(path), 'eval_dir': str(eval_dir), 'report': False, **given}),
        (lambda line: None) if said is None else said.append)


def table(folder):
    with open(folder / 'eval_results.csv', encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file, strict=True))


def put(trained, folder, *steps):
    """A training's folder as it is when these checkpoints are there."""
    folder.mkdir(exist_ok=True)
    for name in [name for name in os.listdir(trained) if name == 'train_config.json' or name.startswith(
            tuple(f'model.ckpt-{step}.' for step in steps))]:
        shutil.copy(trained / name, folder)
    paths = [str(folder / f'model.ckpt-{step}') for step in STEPS if (folder / f'model.ckpt-{step}.index').exists()]
    tf.compat.v1.train.update_checkpoint_state(str(folder), paths[-1], paths)
    return folder


def test_the_results_are_scikit_learns(run, probabilities):
    results, _ = run
    found, labels = probabilities
    predicted = found.argmax(1)
    assert 0.5 < results['Accuracy'] < 1
    expected = {
        'Accuracy': theirs.accuracy_score(labels, predicted),
        'Recall_5': theirs.top_k_accuracy_score(labels, found, k=5),
        'balanced_accuracy': theirs.balanced_accuracy_score(labels, predicted),
        'loss': theirs.log_loss(labels, found), 'log_loss': theirs.log_loss(labels, found),
        **{f'{mean}_f1': theirs.f1_score(labels, predicted, average=mean) for mean in ('macro', 'weighted')}}
    assert {name: results[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    report = theirs.classification_report(labels, predicted, output_dict=True)
    for label, row in enumerate(results['per_class']):
        assert (row['class'], row['images']) == (str(label), report[str(label)]['support'])
        assert [row['precision'], row['recall'], row['f1']] == pytest.approx(
            [report[str(label)][name] for name in ('precision', 'recall', 'f1-score')])
    assert results['confusion_matrix'] == theirs.confusion_matrix(labels, predicted).tolist()
    assert results['num_images'] == 360 == sum(one['images'] for one in results['calibration'])
    assert (results['global_step'], results['moving_averages'], results['image_size']) == (60, True, 16)
    assert results['settings']['batch_size'] == 100
    low, high = results['confidence_intervals']['Accuracy']
    assert low < results['Accuracy'] < high and results['confidence_method']['of shares'] == 'Wilson score'


def test_the_answers_for_each_image(run, probabilities, trained, tmp_path):
    _, rows = run
    found, labels = probabilities
    assert len({row['image'] for row in rows}) == 360
    assert [int(row['label']) for row in rows] == labels.tolist()
    order = np.argsort(-found, 1, kind='stable')
    for row, label, answered, classes in zip(rows, labels, found, order, strict=True):
        assert [row['predicted_class'], *(row[f'class_{rank}'] for rank in (2, 3, 4, 5))] == [
            str(one) for one in classes[:5]]
        assert [float(row['probability']), *(float(row[f'probability_{rank}']) for rank in (2, 3, 4, 5))
                ] == pytest.approx(answered[classes[:5]].tolist(), rel=1e-3, abs=1e-6)
        assert float(row['probability_of_class']) == pytest.approx(answered[label], rel=1e-3, abs=1e-6)
        assert row['right'] == str(classes[0] == label)
    evaluated(trained, tmp_path, predictions=str(tmp_path / 'answers.jsonl'), batch_size=7)
    lines = [json.loads(line) for line in (tmp_path / 'answers.jsonl').read_text(encoding='utf-8').splitlines()]
    assert [(line['image'], line['class'], line['predicted_class'], str(line['right'])) for line in lines] == [
        (row['image'], row['class'], row['predicted_class'], row['right']) for row in rows]


def test_views_are_averaged_as_a_training_counts_them(trained, tmp_path):
    given = dict(eval_flip=True, eval_corners=True, eval_crop_fraction=0.75, preprocessing_name='inception',
                 max_num_batches=1)
    found = evaluated(trained, tmp_path, **given)
    config = eval_config({'checkpoint_path': str(trained), **given})
    model = nets.create_model('lenet', 10, image_size=16, channels=1)
    checkpoints.restore(checkpoints.Reader(str(trained / 'model.ckpt-60')), model.by_name, moving_averages=True)
    expected = evaluation.measure(config, model, held_out(config))
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert found['num_images'] == 100


def test_a_row_for_each_run(trained, tmp_path):
    first = evaluated(trained, tmp_path, max_num_batches=1)
    (tmp_path / 'eval_results.csv').write_text(
        'note,' + (tmp_path / 'eval_results.csv').read_text().replace('\n', '\n"mine, ""äh""",', 1), encoding='utf-8')
    second = evaluated(trained / 'model.ckpt-20', tmp_path)
    one, other = table(tmp_path)
    assert (one['note'], other['note']) == ('mine, "äh"', '')
    for row, results, batches in ((one, first, '1'), (other, second, '')):
        assert float(row['Accuracy']) == results['Accuracy'] and int(row['num_images']) == results['num_images']
        assert [float(row['macro_f1_low']), float(row['macro_f1_high'])] == results['confidence_intervals']['macro_f1']
        assert (row['checkpoint'], row['global_step']) == (results['checkpoint'], str(results['global_step']))
        assert (row['max_num_batches'], row['eval_flip']) == (batches, 'False')
    assert json.loads((tmp_path / 'eval_results.json').read_text()) == second


@pytest.mark.parametrize('content', ['name,price\ntea,3\n', 'checkpoint,Accuracy\na,1,2\n', 'checkpoint,Accuracy\na\n',
                                     b'\xff\xfe'], ids=['another', 'longer', 'shorter', 'bytes'])
def test_another_table_is_left_alone(trained, tmp_path, content):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / 'eval_results.csv').write_bytes(content)
    with pytest.raises(RunError, match='eval_results.csv is no table of evaluations: move it away, or use another'):
        evaluated(trained, tmp_path)
    assert (tmp_path / 'eval_results.csv').read_bytes() == content and os.listdir(tmp_path) == ['eval_results.csv']


def test_a_full_disk_leaves_whole_files(trained, tmp_path, full_disk):
    evaluated(trained, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in ('eval_results.json', 'eval_results.csv')}
    with full_disk(500), pytest.raises((RunError, checkpoints.CheckpointError), match='answers.csv'):
        evaluated(trained, tmp_path, predictions=str(tmp_path / 'answers.csv'))
    with full_disk(500), pytest.raises((RunError, checkpoints.CheckpointError), match='eval_results.json'):
        evaluated(trained, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert not (tmp_path / 'answers.csv').exists()


def test_every_checkpoint_and_the_best(trained, tmp_path):
    singly = {step: evaluated(trained / f'model.ckpt-{step}', tmp_path / 'singly')['Accuracy'] for step in STEPS}
    best = max(STEPS, key=lambda step: (singly[step], -step))
    said = []
    results = evaluated(trained, tmp_path / 'all', said, all_checkpoints=True)
    rows = table(tmp_path / 'all')
    assert [(int(row['global_step']), float(row['Accuracy'])) for row in rows] == list(singly.items())
    assert results['global_step'] == 60
    listed = [line.split() for line in said[-5:]]
    assert listed[0][:2] == ['step', 'accuracy'] and [int(words[0]) for words in listed[1:4]] == list(STEPS)
    assert [int(words[0]) for words in listed if words[-1] == 'best'] == [best]
    assert checkpoints.latest(str(tmp_path / 'all' / 'best')) == str(tmp_path / 'all' / 'best' / f'model.ckpt-{best}')
    again = evaluated(tmp_path / 'all' / 'best', tmp_path / 'again')     # its training's settings are there too
    assert again['Accuracy'] == singly[best]


def test_the_best_is_by_the_metric(trained, tmp_path):
    rows = {}
    for metric, column, pick in (('loss', 'loss', min), ('recall_5', 'Recall_5', max)):
        evaluated(trained, tmp_path / metric, all_checkpoints=True, best_metric=metric, max_num_batches=1)
        rows = {int(row['global_step']): float(row[column]) for row in table(tmp_path / metric)}
        assert len(rows) == 3
        kept, = json.loads((tmp_path / metric / 'best' / 'best.json').read_text())
        assert kept['value'] == pytest.approx(pick(rows.values())) == pytest.approx(rows[kept['step']])


def test_it_waits_until_the_training_has_ended(trained, tmp_path):
    """A training that goes on beside it: each time that results are there, the next checkpoint is too."""
    said, coming = [], [20, 40, 60]

    def say(line):
        said.append(line)
        if line.startswith(('Looking for', 'eval/Recall_5')) and coming:
            put(trained, tmp_path / 'live', coming.pop(0))

    (tmp_path / 'live').mkdir()
    results = evaluation.evaluate(EvalConfig(
        model_name='lenet', dataset_name='digits', eval_image_size=16, checkpoint_path=str(tmp_path / 'live'),
        eval_dir=str(tmp_path / 'eval'), report=False, eval_interval_secs=1, max_num_batches=1), say)
    assert [int(row['global_step']) for row in table(tmp_path / 'eval')] == [20, 40, 60]
    assert results['global_step'] == 60 and said[-1].endswith(f'{tmp_path}/eval/best.')


def test_waiting_begins_with_the_newest_and_ends_by_its_timeout(trained, tmp_path):
    said = []
    live = put(trained, tmp_path / 'live', 20, 40)
    evaluated(live, tmp_path / 'eval', said, eval_interval_secs=1, timeout=1, max_num_batches=1)
    assert [row['global_step'] for row in table(tmp_path / 'eval')] == ['40']
    assert 'No new checkpoint for 1 s.' in said
    evaluated(live, tmp_path / 'every', said, eval_interval_secs=1, timeout=1, max_num_batches=1, all_checkpoints=True)
    assert [row['global_step'] for row in table(tmp_path / 'every')] == ['20', '40']


@pytest.mark.parametrize('given', [dict(all_checkpoints=True), dict(eval_interval_secs=1)])
def test_one_checkpoint_is_not_several(trained, tmp_path, given):
    with pytest.raises(ConfigError, match='model.ckpt-60 is one checkpoint: --all_checkpoints and'):
        evaluated(trained / 'model.ckpt-60', tmp_path, **given)


def test_answers_that_cannot_be_written_are_told_first(trained, tmp_path):
    (tmp_path / 'taken').write_text('mine')
    said = []
    with pytest.raises(RunError, match=r'taken/a.csv cannot be written: [^.]*\.$'):
        evaluated(trained, tmp_path / 'eval', said, predictions=str(tmp_path / 'taken' / 'a.csv'))
    assert not any(line.startswith('eval/') for line in said) and not (tmp_path / 'eval').exists()


def test_nothing_came(tmp_path):
    with pytest.raises(checkpoints.CheckpointError, match='No checkpoint of .*live was evaluated'):
        evaluation.evaluate(EvalConfig(
            model_name='lenet', dataset_name='digits', checkpoint_path=str(tmp_path / 'live'),
            eval_dir=str(tmp_path / 'eval'), eval_interval_secs=1, timeout=1), lambda line: None)


@pytest.mark.parametrize('waiting', [{}, dict(eval_interval_secs=1)], ids=['there', 'waiting'])
def test_a_checkpoint_that_is_removed_meanwhile_is_passed_over(trained, tmp_path, waiting):
    live, said = put(trained, tmp_path / 'live', *STEPS), []

    def say(line):
        said.append(line)
        if line.startswith('eval/Recall_5'):
            for path in live.glob('model.ckpt-40.*'):
                path.unlink()

    evaluation.evaluate(eval_config({
        'checkpoint_path': str(live), 'eval_dir': str(tmp_path / 'eval'), 'report': False, 'all_checkpoints': True,
        'max_num_batches': 1, **waiting}), say)
    assert f'{live}/model.ckpt-40 was removed before it was evaluated.' in said
    assert [row['global_step'] for row in table(tmp_path / 'eval')] == ['20', '60']


@pytest.mark.parametrize('stop', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_waiting(trained, tmp_path, stop):
    live = put(trained, tmp_path / 'live', 20)
    before = signal.getsignal(stop)

    def say(line):
        if line.startswith('eval/Recall_5'):
            os.kill(os.getpid(), stop)

    with pytest.raises(Interrupted, match='Stopped waiting; the results so far are in .*eval_results.csv') as caught:
        evaluation.evaluate(eval_config({
            'checkpoint_path': str(live), 'eval_dir': str(tmp_path / 'eval'), 'report': False, 'max_num_batches': 1,
            'eval_interval_secs': 60}), say)
    assert caught.value.exit_code == 128 + stop
    assert len(table(tmp_path / 'eval')) == 1 and (tmp_path / 'eval' / 'best' / 'model.ckpt-20.index').exists()
    assert signal.getsignal(stop) == before


def birds(folder, labels='background lark wren'):
    """Photos of all classes but the first, and their list."""
    lines, names = ['path,label,split'], labels.split()
    for number in range(12):
        name = names[1 + number % (len(names) - 1)]
        image = np.random.RandomState(number).randint(0, 256, (20, 20), np.uint8)
        PIL.Image.fromarray(image).save(folder / f'{number}.png')
        lines.append(f'{number}.png,{name},validation')
    (folder / 'list.csv').write_text('\n'.join(lines))
    (folder / 'labels.txt').write_text('\n'.join(f'{label}:{name}' for label, name in enumerate(names)))
    return dict(dataset_name='file_list', dataset_dir=str(folder / 'list.csv'), dataset_split_name='validation',
                batch_size=5)


@pytest.fixture
def published_network(tiny_networks, monkeypatch, tmp_path):
    """`plain` as if its weights, for two classes without background, were published: their prefix."""
    row = registry.get('tiny_networks:plain')
    model = nets.create_model('tiny_networks:plain', 2, image_size=16)
    prefix = model.save(str(tmp_path / 'published'))
    averages = {name: np.zeros(variable.shape, np.float32) for name, variable in model.by_name.items()}
    averages['Plain/logits/biases'] = np.array([3, 1], np.float32)
    averaged = checkpoints.save(str(tmp_path / 'averaged'), 7, {
        **{name: variable.numpy() for name, variable in model.by_name.items()},
        **{name + checkpoints.AVERAGE: value for name, value in averages.items()}}, None)
    changed = dataclasses.replace(row, labels_offset=1, eval_image_size=24, weights='plain.tar.gz')
    for name in [name for name, one in registry.NETWORKS.items() if one is row]:
        registry._networks[name] = changed
    monkeypatch.setattr(registry, 'get', lambda name: changed)
    monkeypatch.setattr(published, 'of', lambda network: averaged)
    return model, prefix


def test_weights_without_background(published_network, tmp_path):
    (tmp_path / 'birds').mkdir()
    model, prefix = published_network
    config = EvalConfig(**birds(tmp_path / 'birds'), model_name='tiny_networks:plain', checkpoint_path=prefix,
                        eval_dir=str(tmp_path / 'eval'), report=False, use_grayscale=True,
                        predictions=str(tmp_path / 'answers.csv'))
    said = []
    results = evaluation.evaluate(config, said.append)
    assert 'The weights have 2 classes, those without background: --labels_offset=1 is taken.' in said
    (images, labels), = evaluation_batches(dataclasses.replace(config, batch_size=12, labels_offset=1),
                                           held_out(config), 16)
    assert labels.numpy().tolist() == [0, 1] * 6
    right = model(images[:, 0]).numpy().argmax(1) == labels.numpy()
    assert results['Accuracy'] == pytest.approx(right.mean())
    assert [row['class'] for row in results['per_class']] == ['lark', 'wren']
    with open(tmp_path / 'answers.csv') as file:
        answers = list(csv.DictReader(file))
    assert [(row['label'], row['class']) for row in answers[:2]] == [('1', 'lark'), ('2', 'wren')]


def test_published_weights(published_network, tmp_path):
    """At their own size, with their moving averages, of which all answers here are the first class."""
    (tmp_path / 'birds').mkdir()
    said = []
    results = evaluation.evaluate(EvalConfig(
        **birds(tmp_path / 'birds'), model_name='tiny_networks:plain', pretrained=True, use_grayscale=True,
        eval_dir=str(tmp_path / 'eval'), report=False), said.append)
    assert (results['image_size'], results['moving_averages'], results['Accuracy']) == (24, True, 0.5)
    assert results['per_class'][0]['recall'] == 1
    assert results['loss'] == pytest.approx(np.mean([-np.log(1 / (1 + np.exp(-2))), -np.log(1 / (1 + np.exp(2)))]))
    assert any('--labels_offset=1 is taken' in line for line in said)


def test_other_numbers_of_classes_are_refused(published_network, tmp_path):
    (tmp_path / 'birds').mkdir()
    with pytest.raises(checkpoints.CheckpointError, match='It must be a checkpoint of .* with 4 classes'):
        evaluation.evaluate(EvalConfig(
            **birds(tmp_path / 'birds', 'background lark wren owl'), model_name='tiny_networks:plain', pretrained=True,
            use_grayscale=True, eval_dir=str(tmp_path / 'eval'), report=False), lambda line: None)


def test_two_classes_by_one_logit(tiny_networks, tmp_path):
    model = nets.create_model('tiny_networks:plain', 1, image_size=16)
    prefix = model.save(str(tmp_path / 'weights'))
    (tmp_path / 'birds').mkdir()
    config = EvalConfig(**{**birds(tmp_path / 'birds', 'dove lark wren'), 'batch_size': 12}, class_mode='binary',
                        labels_offset=1, model_name='tiny_networks:plain', checkpoint_path=prefix,
                        eval_dir=str(tmp_path / 'eval'), report=False, use_grayscale=True)
    results = evaluation.evaluate(config, lambda line: None)
    (images, labels), = evaluation_batches(config, held_out(config), 16)
    scores = tf.sigmoid(model(images[:, 0]))[:, 0].numpy()
    assert results['roc_auc'] == pytest.approx(theirs.roc_auc_score(labels, scores))
    assert results['loss'] == pytest.approx(theirs.log_loss(labels, scores), rel=1e-4) == results['log_loss']
    assert results['Accuracy'] == theirs.accuracy_score(labels, scores >= 0.5)


def test_any_number_of_classes_each(tiny_networks, tmp_path):
    model = nets.create_model('tiny_networks:plain', 3, image_size=16)
    prefix = model.save(str(tmp_path / 'weights'))
    random, lines = np.random.RandomState(0), ['path,labels,split']
    for number in range(20):
        PIL.Image.fromarray(random.randint(0, 256, (16, 16), np.uint8)).save(tmp_path / f'{number}.png')
        has = [name for name in ('bird', 'tree', 'sea') if random.rand() < 0.5]
        lines.append(f'{number}.png,{"|".join(has)},validation')
    (tmp_path / 'list.csv').write_text('\n'.join(lines))
    config = EvalConfig(dataset_name='file_list', dataset_dir=str(tmp_path / 'list.csv'),
                        dataset_split_name='validation', class_mode='multilabel',
                        model_name='tiny_networks:plain', checkpoint_path=prefix,
                        eval_dir=str(tmp_path / 'eval'), report=False, use_grayscale=True, batch_size=20,
                        predictions=str(tmp_path / 'answers.jsonl'))
    results = evaluation.evaluate(config, lambda line: None)
    (images, labels), = evaluation_batches(config, held_out(config), 16)
    scores = tf.sigmoid(model(images[:, 0])).numpy()
    labels, said = labels.numpy(), scores >= 0.5
    assert results['roc_auc'] == pytest.approx(theirs.roc_auc_score(labels, scores, average='macro'))
    assert [row['roc_auc'] for row in results['per_class']] == pytest.approx(
        theirs.roc_auc_score(labels, scores, average=None))
    assert results['micro_f1'] == pytest.approx(theirs.f1_score(labels, said, average='micro'))
    assert results['subset_accuracy'] == theirs.accuracy_score(labels, said)
    names = [row['class'] for row in results['per_class']]
    answers = [json.loads(line) for line in (tmp_path / 'answers.jsonl').read_text().splitlines()]
    for answer, own, row in zip(answers, labels, said, strict=True):
        assert answer['class'] == ';'.join(name for name, has in zip(names, own, strict=True) if has)
        assert answer['predicted_class'] == ';'.join(name for name, has in zip(names, row, strict=True) if has)
        assert answer['right'] == (own == row).all()


def test_weights_that_are_no_numbers(trained, tmp_path):
    reader = checkpoints.Reader(str(trained / 'model.ckpt-60'))
    values = {name: reader.value(name) for name in reader.shapes}
    values['LeNet/fc4/weights/ExponentialMovingAverage'][0] = np.nan
    checkpoints.save(str(tmp_path), 60, values, None)
    shutil.copy(trained / 'train_config.json', tmp_path)
    with pytest.raises(RunError, match='no number: its weights are damaged, or its training had diverged'):
        evaluated(tmp_path, tmp_path / 'eval', predictions=str(tmp_path / 'answers.csv'))
    assert not (tmp_path / 'answers.csv').exists() and not (tmp_path / 'eval').exists()


def test_without_matplotlib_there_is_no_report(trained, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split('.')[0] == 'matplotlib']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    said = []
    evaluated(trained, tmp_path, said, report=True, max_num_batches=1)
    assert said[-1] == "The report needs matplotlib: pip install 'slim-zoo[plot]'."
    assert sorted(os.listdir(tmp_path)) == ['eval_results.csv', 'eval_results.json']


@pytest.mark.parametrize('given, message', [
    (dict(timeout=5), '--timeout ends the waiting for new checkpoints: add --eval_interval_secs=60'),
    (dict(eval_interval_secs=-1), '--eval_interval_secs'),
    (dict(eval_interval_secs=5, timeout=0), '--timeout'),
    (dict(best_metric='top1'), '--best_metric'),
    (dict(predictions='answers.txt'), 'its name must end in .csv or .jsonl'),
    (dict(predictions='a.csv', all_checkpoints=True), '--predictions are of one checkpoint'),
    (dict(pretrained=True), '--pretrained: say of which network, by --model_name'),
    (dict(pretrained=True, model_name='vgg_16', checkpoint_path='a.ckpt'), 'both say which weights to evaluate'),
    (dict(pretrained=True, model_name='lenet'), 'there are no published weights of lenet, only of .*inception_v1'),
    (dict(pretrained=True, model_name='vgg_16', all_checkpoints=True), '--pretrained are one checkpoint')])
def test_settings_that_are_refused(given, message):
    if 'pretrained' not in given:
        given = dict(given, model_name='lenet')
    with pytest.raises(ConfigError, match=message):
        eval_config(given)
