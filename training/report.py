"""The report of an evaluation: one HTML file that holds its figures, tables and pictures, and needs nothing else."""
import base64
import html
import io
import os
from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image

from nets import checkpoints
from training import pictures
from training.console import shown
from training.evaluation import Findings, Sample

REPORT_FILE = 'report.html'
_CLASSES = 1000     # that are listed; the results have all
_SIDE = 160         # pixels of the images of samples

_TITLES = {
    'Accuracy': 'Accuracy', 'Recall_5': 'Top-5 accuracy', 'subset_accuracy': 'All labels right',
    'balanced_accuracy': 'Balanced accuracy', 'macro_f1': 'Macro F1', 'macro_precision': 'Macro precision',
    'macro_recall': 'Macro recall', 'weighted_f1': 'Weighted F1', 'weighted_precision': 'Weighted precision',
    'weighted_recall': 'Weighted recall', 'micro_f1': 'Micro F1', 'micro_precision': 'Micro precision',
    'micro_recall': 'Micro recall', 'log_loss': 'Log loss', 'calibration_error': 'Calibration error',
    'roc_auc': 'ROC AUC', 'average_precision': 'Average precision'}
_NO_SHARES = ('log_loss', 'calibration_error', 'roc_auc', 'average_precision')
_PICTURES = {
    'confusion_matrix': 'The confusion matrix: a row for each class, a column for each answer.',
    'most_confused': 'The pairs of classes that were taken for one another most often.',
    'per_class': 'Precision, recall and F1 of classes, with the number of their images.',
    'reliability': 'How often answers of a confidence are right.'}

_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --back: #fff; --soft: #f3f4f6; --line: #d6d9de; --dim: #5c6270;
  --bad: #b3263a; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e8ea; --back: #16181d; --soft: #22252c; --line: #3a3f4a;
  --dim: #a3a9b6; --bad: #ff8b98; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--text);
  background: var(--back); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .2rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .6rem; }
figcaption { margin-top: .3rem; } p.dim, figcaption, td.dim, th { color: var(--dim); }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.figure { background: var(--soft); border-radius: .5rem; padding: .6rem .8rem; }
.figure b { display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums; }
.figure small { color: var(--dim); }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; max-height: 34rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { position: sticky; top: 0; background: var(--soft); font-weight: 600; text-align: right; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th.name, td.name { text-align: left; } td.name { white-space: normal; min-width: 8rem; }
.pictures { columns: 26rem; column-gap: 1.2rem; } .pictures figure { break-inside: avoid; margin-bottom: 1.2rem; }
.pictures figure.large { column-span: all; }
figure { margin: 0; } .pictures div { overflow-x: auto; border-radius: .5rem; background: #fff; }
.pictures img { display: block; height: auto; margin: auto; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .8rem; }
.samples img { width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: .4rem;
  background: var(--soft); image-rendering: auto; }
.samples figcaption { font-size: .85rem; line-height: 1.3; } .wrong { color: var(--bad); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dt { color: var(--dim); }
dd { margin: 0; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
"""


def write(folder: str, results: dict[str, Any], findings: Findings) -> str | None:
    """Writes the pictures, and the report that holds them.

    Args:
      folder: where to.
      results: of `evaluation.examine`, with what was evaluated.
      findings: of `evaluation.examine`.

    Returns:
      The path of `report.html`; None where matplotlib is not installed.

    Raises:
      nets.checkpoints.CheckpointError: a file cannot be written.
    """
    try:
        drawn = pictures.draw(findings)
    except ImportError:
        return None
    for name, picture in drawn.items():
        checkpoints.write_text(folder, f'{name}.png', picture)
    return checkpoints.write_text(folder, REPORT_FILE, _page(results, findings, drawn).encode('utf-8', 'replace'))


def _page(results, findings, drawn):
    title = f'{results["model_name"]} on {results["dataset_name"]} {results["dataset_split_name"]}'
    step = '' if results['global_step'] is None else f', step {results["global_step"]:,}'
    body = [
        f'<h1>{_text(title)}</h1>',
        f'<p class="dim">{results["num_images"]:,} images at {results["image_size"]}x{results["image_size"]}{step}; '
        f'{_text(os.path.basename(results["checkpoint"]))}; {_text(results["time"][:16].replace("T", " "))}</p>',
        _figures(results)]
    body.append('<div class="pictures">' + '\n'.join(
        _picture(drawn[name], caption) for name, caption in _PICTURES.items() if name in drawn)
        + '</div>')
    for heading, samples in (('The most confident mistakes', findings.mistakes),
                             ('The most uncertain', findings.uncertain)):
        if samples:
            body += [f'<h2>{heading}</h2>', _samples(samples, findings.class_names)]
    body += _tables(results)
    body += ['<h2>What was evaluated</h2>', _settings(results)]
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{_text(title)}</title>\n'
            f'<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n</head>\n<body>\n' + '\n'.join(body)
            + '\n</body>\n</html>\n')


def _text(value: object) -> str:
    """Text for HTML; of names what is no letter is shown as such."""
    return html.escape(shown(str(value)))


def _uri(content, kind):
    return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'


def _picture(content, caption):
    # What is too wide for its letters to be read in a small window is scrolled.
    with Image.open(io.BytesIO(content)) as image:
        inches = image.width / pictures.DOTS
    return (f'<figure{" class=large" if inches > 6 else ""}><div tabindex="0"><img src="{_uri(content, "png")}" '
            f'alt="{_text(caption)}" style="width: {inches * 108:.0f}px; max-width: max(100%, {inches * 66:.0f}px)">'
            f'</div><figcaption>{_text(caption)}</figcaption></figure>')


def _figures(results):
    parts = []
    for name, title in _TITLES.items():
        value = results.get(name)
        if value is None or name == 'Recall_5' and results['settings'].get('class_mode') == 'multilabel':
            continue
        told = f'{value:.4f}' if name in _NO_SHARES else f'{value:.2%}'
        interval = results['confidence_intervals'].get(name)
        note = f'<small>95%: {interval[0] * 100:.1f} to {interval[1]:.1%}</small>' if interval else ''
        parts.append(f'<div class="figure">{_text(title)}<b>{told}</b>{note}</div>')
    return f'<div class="figures">{"".join(parts)}</div>'


def _samples(samples: Sequence[Sample], names: Sequence[str]) -> str:
    parts = []
    for sample in samples:
        picture = io.BytesIO()
        image = Image.fromarray(pictures.scaled(sample.image))
        image.thumbnail((_SIDE, _SIDE))
        image.save(picture, 'JPEG', quality=88)
        answer = f'{pictures.short(names[sample.predicted])} {sample.probability:.0%}'
        kind, file = 'right' if sample.label == sample.predicted else 'wrong', _text(os.path.basename(sample.source))
        parts.append(f'<figure><img src="{_uri(picture.getvalue(), "jpeg")}" alt="{file}">'
                     f'<figcaption>{_text(pictures.short(names[sample.label]))}<br>'
                     f'<span class="{kind}">→ {_text(answer)}</span><br><small>{file}</small></figcaption></figure>')
    return f'<div class="samples">{"".join(parts)}</div>'


def _tables(results) -> Iterable[str]:
    rows = [row for row in results['per_class'] if row['images'] or row['predicted']]
    shown_rows, count = rows[:_CLASSES], len(results['per_class'])
    yield '<h2>Classes</h2>'
    if len(shown_rows) < count:
        which = 'those that images have or answers name' if len(rows) == len(shown_rows) else 'the first'
        yield f'<p class="dim">{len(shown_rows):,} of {count:,}, {which}; <code>eval_results.json</code> has all.</p>'
    areas = any('roc_auc' in row for row in rows)
    yield _table(['class', 'images', 'precision', 'recall', 'F1', *(['ROC AUC'] if areas else [])],
                 [[row['class'], f'{row["images"]:,}', f'{row["precision"]:.3f}', f'{row["recall"]:.3f}',
                   f'{row["f1"]:.3f}', *([_number(row.get('roc_auc'))] if areas else [])] for row in shown_rows])
    if results.get('confused'):
        yield '<h2>Taken for another class</h2>'
        yield _table(['class', 'answer', 'images'],
                     [[row['class'], row['predicted'], f'{row["images"]:,}'] for row in results['confused']])


def _number(value):
    return '-' if value is None else f'{value:.3f}'


def _table(heads, rows):
    kinds = [' class="name"' if name in ('class', 'answer') else '' for name in heads]
    head = ''.join(f'<th scope="col"{kind}>{_text(name)}</th>' for kind, name in zip(kinds, heads, strict=True))
    body = ''.join('<tr>' + ''.join(f'<td{kind}>{_text(cell)}</td>' for kind, cell in zip(kinds, row, strict=True))
                   + '</tr>' for row in rows)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _settings(results):
    told = {name: value for name, value in results['settings'].items() if value not in (None, False, '')}
    told.update(checkpoint=results['checkpoint'], moving_averages=results['moving_averages'])
    if results.get('skipped'):
        told['skipped'] = f'{len(results["skipped"])} images: ' + ', '.join(results['skipped'][:20])
    return '<dl>' + ''.join(f'<dt>{_text(name)}</dt><dd>{_text(value)}</dd>' for name, value in told.items()) + '</dl>'
