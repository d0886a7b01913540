"""Questions to a page that only a browser can answer, in its own language. Each tells all that is wrong."""

TOO_WIDE = """() => {
    const scrolls = e => { for (let p = e.parentElement; p; p = p.parentElement)
        if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(p).overflowX)) return true; };
    return [...document.querySelectorAll('body *')]
        .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
        .filter(e => !e.closest('svg') && !scrolls(e))
        .map(e => e.tagName + ' ' + e.textContent.trim().slice(0, 40));
}"""
"""What stands out of the screen to the right."""

DIM = """() => {
    const parsed = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
    const linear = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
    const behind = e => {
        for (; e; e = e.parentElement) {
            const colour = parsed(getComputedStyle(e).backgroundColor);
            if (colour.length && (colour.length < 4 || colour[3] > .99)) return colour;
        }
        return [255, 255, 255];
    };
    const text = e => [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent.trim()).join(' ').trim();
    return [...document.querySelectorAll('body *')]
        .filter(e => text(e) && !e.closest('svg, .skip') && e.checkVisibility())
        .map(e => [e, light(parsed(getComputedStyle(e).color)), light(behind(e))])
        .map(([e, a, b]) => [e, (Math.max(a, b) + .05) / (Math.min(a, b) + .05)])
        .filter(([, ratio]) => ratio < 4.5)
        .map(([e, ratio]) => `${e.tagName} ${ratio.toFixed(2)} ${text(e).slice(0, 40)}`);
}"""
"""Text with less contrast than 4.5 to 1 (WCAG 2.2, 1.4.3)."""

NAMELESS = """() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea, button')]
    .filter(e => !(e.labels && e.labels.length) && !e.textContent.trim() && !e.getAttribute('aria-label'))
    .map(e => e.outerHTML)"""
"""Fields and buttons that a screen reader has no name for."""

SMALL = """() => [...document.querySelectorAll('form[data-answer] :is(button, input, textarea, label)')]
    .filter(e => !['hidden', 'radio', 'checkbox'].includes(e.type))
    .filter(e => e.tagName !== 'LABEL' || ['radio', 'checkbox'].includes(e.control.type))
    .map(e => [e.getBoundingClientRect(), e])
    .filter(([box]) => box.width && box.height < 24)
    .map(([, e]) => e.outerHTML)"""
"""What a thumb cannot hit (WCAG 2.2, 2.5.8); a radio or box is hit by its label."""
