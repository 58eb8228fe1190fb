// Draws the figures of a page from the JSON beside them. One script for the whole site; nothing is fetched.
(() => {
  "use strict";

  const plain = (text) => new DOMParser().parseFromString((text || "").replace(/<br\s*\/?>/g, " "), "text/html").body.textContent;

  // The title stands above the figure as text: it wraps on a phone, can be copied, and never meets the legend.
  const takeTitle = (box, layout) => {
    const title = typeof layout.title === "string" ? { text: layout.title } : layout.title || {};
    const words = box.querySelector(".plotly-words");
    words.textContent = plain(title.text);
    words.hidden = !words.textContent;
    if (title.subtitle && title.subtitle.text) {
      const small = document.createElement("small");
      small.textContent = plain(title.subtitle.text);
      words.append(document.createElement("br"), small);
    }
    delete layout.title;
    layout.margin = { ...layout.margin, t: Math.max(30, ((layout.margin || {}).t ?? 80) - 45) };
  };

  const fitPhone = (layout, data) => {
    const entries = data.filter((t) => t.name && t.showlegend !== false).length;
    const legend = layout.showlegend !== false && entries > 1;
    layout.margin = { ...layout.margin, l: 12, r: 12, b: 12 };
    layout.height = (layout.height || 450) + (legend ? 20 * entries : 0);
    layout.legend = { ...layout.legend, orientation: "h", x: 0, xanchor: "left", yref: "container", y: 0, yanchor: "bottom" };
    for (const key of Object.keys(layout).filter((k) => /^[xy]axis\d*$/.test(k))) {
      layout[key] = { ...layout[key], automargin: true };
    }
  };

  const draw = (box) => {
    const spec = JSON.parse(box.querySelector("script").textContent);
    const layout = { ...spec.layout, autosize: true };
    delete layout.width; // the page decides, so that a phone never scrolls sideways
    const phone = box.clientWidth < 520;
    takeTitle(box, layout);
    if (phone) fitPhone(layout, spec.data);
    const plot = document.createElement("div");
    if (layout.height) plot.style.height = `${layout.height}px`;
    box.append(plot);
    const config = { ...spec.config, responsive: true, displaylogo: false, displayModeBar: phone ? false : "hover" };
    window.Plotly.newPlot(plot, spec.data, layout, config).then(() => {
      box.dataset.drawn = "true";
    });
  };

  const boxes = document.querySelectorAll(".plotly-figure");
  if (!("IntersectionObserver" in window)) {
    boxes.forEach(draw);
    return;
  }
  const near = new IntersectionObserver(
    (seen) =>
      seen
        .filter((s) => s.isIntersecting)
        .forEach((s) => {
          near.unobserve(s.target);
          draw(s.target);
        }),
    { rootMargin: "400px" },
  );
  boxes.forEach((box) => near.observe(box));
})();
