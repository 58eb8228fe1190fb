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
      const title = layout[key].title;
      if (title && title.text) layout[key].title = { ...title, text: wrapped(title.text), font: { size: 12, ...title.font } };
    }
    turnLabels(layout, data);
  };

  // A title of an axis is centred on the axis, which a phone leaves as little as half of its screen.
  const wrapped = (text, most = 22) =>
    text.split(" ").reduce((said, word) => {
      const last = said.split("<br>").pop();
      return said + (last.length + word.length < most ? " " : "<br>") + word;
    });

  // Labels of points in the right half point to the left, or they would leave the screen.
  const turnLabels = (layout, data) => {
    const log = (layout.xaxis || {}).type === "log";
    const place = (t) => (log ? Math.log(t.x[0]) : t.x[0]);
    const named = data.filter((t) => /text/.test(t.mode || "") && /right$/.test(t.textposition || "") && Array.isArray(t.x) && t.x.length === 1);
    const places = named.map(place);
    const middle = (Math.min(...places) + Math.max(...places)) / 2;
    for (const t of named) if (place(t) > middle) t.textposition = t.textposition.replace("right", "left");
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
