"""The report, in a browser: that of Chromium, without a window, on a desk and on a phone."""
import contextlib
import io
import os
import re
import shutil

import numpy as np
import PIL.Image
import pytest

from training import metrics, pictures, report
from training.evaluation import Findings, Sample

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
DESK, PHONE = dict(width=1280, height=844), dict(width=390, height=844)
# What would break a page, a formula of matplotlib's, a line of text, or a font.
NAMES = ['<script>alert(1)</script>', 'a & b "c" \'d\'', '$x^2$', 'Gänseblümchen', 'no\nline\x1b[31m',
         'cost $5 and \\frac', 'a very long name of a class that goes on and on without an end', 'x' * 300]


def names_of(count):
    return [*NAMES, *(f'class {number}' for number in range(len(NAMES), count))][:count]


def findings(mode, classes, images, seed=0):
    """Answers as of a network that is right in half of the cases, with pictures of noise."""
    random = np.random.RandomState(seed)
    answers, names = metrics.Answers(mode, classes), names_of(classes)
    if mode == 'multilabel':
        labels = (random.rand(images, classes) < 0.3).astype(int)
        found = np.clip(labels * 0.4 + random.rand(images, classes) * 0.7, 0, 1).astype(np.float32)
    else:
        labels = random.randint(0, classes, images)
        logits = random.normal(size=(images, classes))
        logits[np.arange(images), labels] += 2
        found = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    answers.add(labels, found)
    samples = [] if mode == 'multilabel' else [
        Sample(float(found[at].max()), at, f'folder/<b>{at}</b> ä.jpg', random.rand(32, 32, 3).astype(np.float32) - 0.5,
               int(labels[at]), int(found[at].argmax()), float(found[at].max())) for at in range(min(images, 24))]
    return Findings(names, answers.figures(), [one for one in samples if one.label != one.predicted], samples)


def results(of):
    from training.evaluation import _told
    return {**{'Accuracy': of.figures['Accuracy'], 'Recall_5': of.figures['Recall_5'], 'loss': 1.0, 'num_images': 99},
            **_told(of.figures, of.class_names), 'checkpoint': '/runs/<i>x</i>/model.ckpt-7', 'global_step': 7000,
            'model_name': 'lenet', 'dataset_name': 'flowers', 'dataset_split_name': 'validation', 'image_size': 32,
            'moving_averages': False, 'time': '2026-01-02T03:04:05+0000',
            'settings': {'dataset_dir': '/data/' + 'long/' * 40, 'batch_size': 100}}


@pytest.fixture(scope='module')
def browser():
    if CHROMIUM is None:
        pytest.skip('needs a browser: apt-get install chromium')
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        # Root may not use Chromium's sandbox, and a container's shared memory is small.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox', '--disable-dev-shm-usage'])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, path, size, **kwargs):
    """A page, of which nothing may be complained, and for which nothing may be fetched."""
    context, complaints = browser.new_context(viewport=size, **kwargs), []
    page = context.new_page()
    page.on('console', lambda message: complaints.append(message.text))
    page.on('pageerror', lambda error: complaints.append(str(error)))
    page.on('dialog', lambda dialog: complaints.append(dialog.message))
    page.on('request', lambda request: request.url.startswith('data:') or request.url == path.as_uri()
            or complaints.append(request.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert complaints == []


CASES = {'few': ('categorical', 8, 200), 'two': ('binary', 2, 50), 'many': ('categorical', 1200, 3000),
         'one': ('categorical', 1, 3), 'several each': ('multilabel', 12, 80)}


@pytest.fixture(scope='module', params=CASES)
def page(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('page')
    found = findings(*CASES[request.param])
    return found, folder, report.write(str(folder), results(found), found)


@pytest.mark.parametrize('size', [DESK, PHONE], ids=['desk', 'phone'])
def test_it_fits_and_all_is_shown(browser, page, size):
    found, folder, path = page
    with opened(browser, folder / os.path.basename(path), size) as shown:
        assert shown.evaluate('document.scrollingElement.scrollWidth') <= size['width']
        images = shown.evaluate('[...document.images].map(image => [image.naturalWidth, image.alt, '
                                'image.getBoundingClientRect().width])')
        assert all(natural and alt and width for natural, alt, width in images)
        drawn = 'confusion_matrix' in os.listdir(folder)
        assert len(images) >= 2 + drawn + len(found.mistakes) + len(found.uncertain)
        text = shown.inner_text('body')
        assert f'{found.figures["Accuracy"]:.2%}' in text and 'step 7,000' in text and 'model.ckpt-7' in text
        assert '/runs/<i>x</i>/model.ckpt-7' in text and found.class_names[0] in text      # as they are written
        # All text is inside of the window, but for what can be scrolled by itself.
        outside = shown.evaluate('''[...document.querySelectorAll('h1, h2, p, dd, dt, figcaption, .figure')].filter(
            one => one.getBoundingClientRect().right > innerWidth || one.scrollWidth > one.clientWidth + 1
        ).map(one => one.innerText)''')
        assert outside == []


def test_the_tables_scroll_by_themselves_on_a_phone(browser, page):
    _, folder, path = page
    with opened(browser, folder / os.path.basename(path), PHONE) as shown:
        for table in shown.query_selector_all('.wide'):
            before, after, inner, outer = table.evaluate('''table => {
                const before = table.scrollLeft; table.scrollLeft = 9999;
                return [before, table.scrollLeft, table.scrollWidth, table.clientWidth]; }''')
            assert before == 0 and after == pytest.approx(inner - outer, abs=1)


def luminance(colour):
    """Of `rgb(...)`, as WCAG 2 defines it."""
    parts = np.array([int(part) for part in re.findall(r'\d+', colour)[:3]]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_text_can_be_read_by_day_and_by_night(browser, page, scheme):
    """The contrast that WCAG 2 asks of text, 4.5."""
    _, folder, path = page
    with opened(browser, folder / os.path.basename(path), DESK, color_scheme=scheme) as shown:
        pairs = shown.evaluate('''[...document.querySelectorAll('h1, p, td, th, small, .wrong, dt, dd, b')].map(one => {
            let behind = one;
            while (behind.parentElement && getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)')
                behind = behind.parentElement;
            return [getComputedStyle(one).color, getComputedStyle(behind).backgroundColor]; })''')
        for text, back in {tuple(pair) for pair in pairs}:
            dark, light = sorted([luminance(text), luminance(back)])
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, back)
        back = shown.evaluate('getComputedStyle(document.body).backgroundColor')
        assert (luminance(back) < 0.1) == (scheme == 'dark')


def test_names_are_text(browser, page):
    found, folder, path = page
    with opened(browser, folder / os.path.basename(path), DESK) as shown:
        assert shown.evaluate('document.querySelectorAll("script, i, body b b").length') == 0
        cells = shown.query_selector('.wide').evaluate(
            'table => [...table.querySelectorAll("td:first-child")].map(cell => cell.textContent)')
        of_classes = found.figures['per_class']
        expected = [name.replace('\n', '\ufffd').replace('\x1b', '\ufffd') for name, images, predicted in zip(
            found.class_names, of_classes.images, of_classes.predicted, strict=True) if images or predicted]
        assert cells == expected[:1000] and len(cells) >= min(len(expected), 3) > 0
        assert shown.evaluate('[document.documentElement.lang, document.characterSet]') == ['en', 'UTF-8']


def test_the_pictures_are_files_too(page):
    found, folder, path = page
    pngs = {name.removesuffix('.png') for name in os.listdir(folder) if name.endswith('.png')}
    assert {'reliability', 'per_class'} <= pngs
    assert ('confusion_matrix' in pngs) == (1 <= len(found.class_names) <= 400 and 'confusion' in found.figures)
    assert {'mistakes', 'uncertain'} <= pngs or not found.mistakes
    for name in pngs:
        with PIL.Image.open(folder / f'{name}.png') as image:
            assert max(image.size) < 3000
            assert len(set(np.asarray(image.convert('L')).ravel())) > 10      # something is drawn
    assert os.path.getsize(path) < 2_000_000


def test_the_matrix_shows_its_cells():
    """A class that is always taken for the other: the cell of the two is darkest, and the diagonal is empty."""
    answers = metrics.Answers('categorical', 2)
    answers.add(np.array([0] * 9 + [1]), np.array([[0.1, 0.9]] * 9 + [[0.8, 0.2]], np.float32))
    drawn = pictures.draw(Findings(['a', 'b'], answers.figures(), [], []))
    image = np.asarray(PIL.Image.open(io.BytesIO(drawn['confusion_matrix'])).convert('RGB')).astype(int)
    blue = (image[..., 2] - image[..., 0] > 60) & (image.sum(-1) < 350)     # of the darkest shade
    rows, columns = np.nonzero(blue[:, :int(image.shape[1] * 0.75)])        # left of the scale
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    above = rows < middle[0]
    assert columns[above].mean() > middle[1] > columns[~above].mean()
    assert set(drawn) == {'reliability', 'per_class', 'confusion_matrix', 'most_confused'}


@pytest.mark.parametrize('image, expected', [
    (np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 2, 3), [0, 255]),
    (np.linspace(-123, 151, 4, dtype=np.float32).reshape(2, 2, 1), [0, 255]), (np.full([2, 2, 1], 7.0), [0, 0])])
def test_images_of_any_range_can_be_seen(image, expected):
    found = pictures.scaled(image)
    assert found.shape == (2, 2, 3) and found.dtype == np.uint8 and [found.min(), found.max()] == expected
