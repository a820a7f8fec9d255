# SPDX-License-Identifier: Apache-2.0
"""What interpreter.py does in each kernel before anything else: charts and tables as figures, variables for one execution."""


def _berth_env(new, _was={}):
    """Variables for one execution; None: as it was before."""
    import os
    for name, value in _was.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _was.clear()
    for name, value in (new or {}).items():
        _was[name] = os.environ.get(name)
        os.environ[name] = value


def _berth_kinds():
    import importlib.abc
    import importlib.util
    import re
    import sys

    from IPython import get_ipython
    from IPython.core.formatters import BaseFormatter
    from traitlets import ObjectName, Unicode

    def plain(v):
        """A figure or a text: JSON knows no numpy, no dates, and no NaN."""
        if hasattr(v, "isoformat"):
            return v.isoformat()
        if hasattr(v, "item"):
            v = v.item()
        if isinstance(v, float) and (v != v or v in (float("inf"), float("-inf"))):
            return None
        return v if v is None or isinstance(v, (bool, int, float, str)) else str(v)

    def table(frame):
        return {str(name): [plain(v) for v in frame[name]] for name in frame.columns}

    # --- charts -------------------------------------------------------------------------------------------------------

    def unit(label):
        found = re.search(r"\(([^()]+)\)\s*$|\[([^\[\]]+)\]\s*$", label)
        return (found.group(1) or found.group(2)) if found else None

    def on_axis(axis, values):
        """Values as the axis means them: dates and words are numbers in a drawing."""
        kind = type(axis.converter).__name__ if getattr(axis, "converter", None) else ""
        if "Date" in kind:
            import matplotlib.dates
            return [matplotlib.dates.num2date(v).isoformat() for v in values]
        if "Category" in kind:
            words = {n: w for w, n in axis.units._mapping.items()}
            return [words.get(round(float(v)), plain(v)) for v in values]
        return [plain(v) for v in values]

    def numbers(axis, values):
        """What was given to a line: its own dates and words are still there."""
        return [plain(v) for v in values] if any(hasattr(v, "isoformat") or isinstance(v, str) for v in values) else on_axis(axis, values)

    def scale(axis):
        kind = type(axis.converter).__name__ if getattr(axis, "converter", None) else ""
        return "datetime" if "Date" in kind else "categorical" if "Category" in kind else axis.get_scale()

    def flat(ax):
        return {"title": ax.get_title(), "x_label": ax.get_xlabel() or None, "y_label": ax.get_ylabel() or None,
                "x_unit": unit(ax.get_xlabel()), "y_unit": unit(ax.get_ylabel())}

    def points(ax, kind, elements):
        out = dict(flat(ax), type=kind, elements=elements)
        for letter, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
            out[letter + "_ticks"] = on_axis(axis, axis.get_ticklocs())
            out[letter + "_tick_labels"] = [t.get_text() for t in axis.get_ticklabels()]
            out[letter + "_scale"] = scale(axis)
        return out

    def pair_up(label, ax, xs, ys):
        return {"label": label, "points": [list(p) for p in zip(numbers(ax.xaxis, xs), numbers(ax.yaxis, ys))]}

    def bars_of(ax):
        elements = []
        for group in ax.containers:
            patches = [p for p in group.patches]
            upright = getattr(group, "orientation", "vertical") != "horizontal"
            axis = ax.xaxis if upright else ax.yaxis
            named = {round(float(at), 6): t.get_text() for at, t in zip(axis.get_ticklocs(), axis.get_ticklabels()) if t.get_text()}
            for p in patches:
                middle = p.get_x() + p.get_width() / 2 if upright else p.get_y() + p.get_height() / 2
                elements.append({"label": str(named.get(round(float(middle), 6), on_axis(axis, [middle])[0])), "group": str(group.get_label()),
                                 "value": plain(p.get_height() if upright else p.get_width())})
        return dict(flat(ax), type="bar", elements=elements)

    def pie_of(ax, wedges):
        return dict(type="pie", title=ax.get_title(), elements=[
            {"label": w.get_label(), "angle": plain(abs(w.theta2 - w.theta1)), "radius": plain(w.r)} for w in wedges])

    def boxes_of(ax, stats):
        return dict(flat(ax), type="box_and_whisker", elements=[
            {"label": str(s.get("label", i + 1)), "min": plain(s["whislo"]), "first_quartile": plain(s["q1"]), "median": plain(s["med"]),
             "third_quartile": plain(s["q3"]), "max": plain(s["whishi"]), "outliers": [plain(v) for v in s.get("fliers", [])]}
            for i, s in enumerate(stats)])

    def chart_of(ax):
        from matplotlib.collections import PathCollection
        from matplotlib.container import BarContainer
        from matplotlib.patches import Wedge
        wedges = [p for p in ax.patches if isinstance(p, Wedge)]
        clouds = [c for c in ax.collections if isinstance(c, PathCollection)]
        lines = [x for x in ax.get_lines() if len(x.get_xdata(orig=True))]
        if getattr(ax, "_berth_boxes", None):
            return boxes_of(ax, ax._berth_boxes)
        if wedges:
            return pie_of(ax, wedges)
        if any(isinstance(c, BarContainer) for c in ax.containers):
            return bars_of(ax)
        if clouds:
            return points(ax, "scatter", [pair_up(c.get_label(), ax, *zip(*c.get_offsets().tolist())) for c in clouds if len(c.get_offsets())])
        if lines:
            return points(ax, "line", [pair_up(x.get_label(), ax, x.get_xdata(orig=True), x.get_ydata(orig=True)) for x in lines])
        return {"type": "unknown", "title": ax.get_title(), "elements": []}

    def figure(fig):
        try:
            charts = [chart_of(ax) for ax in fig.axes]
        except Exception:  # what is drawn is shown as a picture in any case
            return None
        if len(charts) > 1:
            return {"type": "superchart", "title": fig._suptitle.get_text() if fig._suptitle else "", "elements": charts}
        return charts[0] if charts else None

    class NoteBoxes(importlib.abc.MetaPathFinder):
        """A box plot is drawn of lines that do not say what they are, so what it is drawn from is noted."""

        def find_spec(self, name, path, target=None):
            if name != "matplotlib.axes._axes":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            run = spec.loader.exec_module

            def exec_module(module):
                run(module)
                draw = module.Axes.bxp

                def bxp(ax, bxpstats, *args, **more):
                    ax._berth_boxes = getattr(ax, "_berth_boxes", []) + list(bxpstats)
                    return draw(ax, bxpstats, *args, **more)
                module.Axes.bxp = bxp
            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, NoteBoxes())
    shown = get_ipython().display_formatter
    for mime, module, name, fn in (("application/vnd.berth.chart+json", "matplotlib.figure", "Figure", figure),
                                   ("application/vnd.berth.data+json", "pandas.core.frame", "DataFrame", table)):
        # matplotlib's own set-up takes its figures out of all that are there: pop.
        kind = type("Formatter", (BaseFormatter,), {"format_type": Unicode(mime), "print_method": ObjectName("_repr_berth_"),
                                                    "_return_type": dict, "pop": lambda self, typ, default=None: default})
        shown.formatters[mime] = kind(parent=shown)
        shown.formatters[mime].for_type_by_name(module, name, fn)


_berth_kinds()
del _berth_kinds
