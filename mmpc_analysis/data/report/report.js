(function () {
  "use strict";
  const plots = Array.from(document.querySelectorAll(".plot"));
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const value = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function colours(layout) {
    const clear = "rgba(0,0,0,0)";
    const change = { "font.color": value("--ink"), paper_bgcolor: clear, plot_bgcolor: clear };
    for (const name of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
      change[name + ".gridcolor"] = value("--grid");
      change[name + ".zerolinecolor"] = value("--zero");
    }
    return change;
  }

  // A legend that breaks into more rows on a narrow page takes its room from the plot: give it back.
  function height(plot, width) {
    const entries = plot.figure.data.filter((trace) => trace.showlegend !== false && trace.type !== "heatmap").length;
    const rows = Math.ceil(entries / Math.max(1, Math.floor(width / 190)));
    return plot.figure.layout.height + (entries > 1 ? 22 * rows : 0);
  }

  // On a telephone the cells of a heatmap need the room that the colour bar and slanted labels take.
  function cells(plot, width) {
    if (!plot.figure.data.some((trace) => trace.type === "heatmap")) return [{}, {}];
    const narrow = width < 480;
    return [
      { showscale: !narrow },
      { "xaxis.tickangle": narrow ? -90 : -40, "xaxis.dtick": 1, "xaxis.tickfont.size": narrow ? 11 : 13, "yaxis.tickfont.size": narrow ? 11 : 13 },
    ];
  }

  function fit(plot, width) {
    const [traces, layout] = cells(plot, width);
    return Plotly.update(plot, traces, Object.assign({ width: width, height: height(plot, width) }, colours(plot.figure.layout), layout));
  }

  function draw(plot) {
    plot.figure = JSON.parse(document.getElementById(plot.id + "-data").textContent);
    const width = plot.clientWidth || 640; // Folded away it has none yet
    const layout = Object.assign({}, plot.figure.layout, { width: width, height: height(plot, width) });
    const options = { displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };
    return Plotly.newPlot(plot, plot.figure.data, layout, options).then(() => fit(plot, width));
  }

  const refit = (width) => plots.filter((plot) => plot.figure && plot.clientWidth).map((plot) => fit(plot, width || plot.clientWidth));
  const drawn = plots.map((plot) =>
    Promise.resolve().then(() => draw(plot)).catch((error) => {
      plot.textContent = "This figure could not be drawn (" + error.message + "); its numbers are in the table below.";
    })
  );
  let waiting = 0;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(refit, 150, 0);
  });
  document.addEventListener("toggle", () => refit(0), true); // What is unfolded gets the width that it has only now
  dark.addEventListener("change", () => refit(0));
  window.matchMedia("print").addEventListener("change", (event) => refit(event.matches ? 660 : 0));
  Promise.all(drawn).then(() => document.documentElement.setAttribute("data-drawn", String(plots.length)));
})();
