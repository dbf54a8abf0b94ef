// The panels, each drawn by Grafana's own component for its type.
import { standardTransformers, standardTransformersRegistry, transformDataFrame, VizOrientation } from "@grafana/data";
import { BarGauge, BigValue, Table, TimeSeries, VizRepeater, useTheme2 } from "@grafana/ui";
import { useEffect, useState } from "react";
import { lastValueFrom } from "rxjs";

import { configured, values } from "./fields.js";

// Some are there under two names.
standardTransformersRegistry.setInit(() =>
  [...new Set(Object.values(standardTransformers))].map((transformation) => ({ ...transformation, editor: () => null, transformation: async () => transformation })),
);

function Stat({ frames, panel, width, height }) {
  const theme = useTheme2();
  const { colorMode, justifyMode, text, textMode } = panel.options;
  const all = values(frames, panel);
  return (
    <VizRepeater
      source={frames}
      getValues={() => all}
      renderCounter={0}
      width={width}
      height={height}
      orientation={VizOrientation.Auto}
      autoGrid
      renderValue={({ value: { value }, width, height, count }) => (
        <BigValue
          value={value}
          count={count}
          colorMode={colorMode}
          graphMode="none"
          justifyMode={justifyMode}
          textMode={textMode === "auto" && count === 1 ? "value" : textMode}
          wideLayout
          text={text}
          width={width}
          height={height}
          theme={theme}
        />
      )}
    />
  );
}

function Bars({ frames, panel, width, height }) {
  const theme = useTheme2();
  const { displayMode, minVizHeight, minVizWidth, namePlacement, orientation, showUnfilled, text, valueMode } = panel.options;
  const all = values(frames, panel);
  const most = Math.max(1, ...all.map(({ value }) => value.numeric));
  return (
    <VizRepeater
      source={frames}
      getValues={() => all}
      renderCounter={0}
      width={width}
      height={height}
      orientation={orientation}
      minVizHeight={minVizHeight}
      minVizWidth={minVizWidth}
      maxVizHeight={300}
      itemSpacing={8}
      getAlignmentFactors={(all) => ({ title: longest(all.map(({ value }) => value.title)), text: longest(all.map(({ value }) => value.text)) })}
      renderValue={({ value: { field, value }, width, height, orientation, alignmentFactors }) => (
        <BarGauge
          value={value}
          field={{ min: 0, max: most, ...field.config }}
          display={field.display}
          displayMode={displayMode}
          namePlacement={namePlacement}
          valueDisplayMode={valueMode}
          showUnfilled={showUnfilled}
          orientation={orientation}
          alignmentFactors={alignmentFactors}
          text={text}
          width={width}
          height={height}
          theme={theme}
        />
      )}
    />
  );
}

function longest(texts) {
  return texts.reduce((a, b) => ((b ?? "").length > a.length ? b : a), "");
}

function Series({ frames, panel, width, height, range }) {
  const [from, to] = [range.start * 1000, range.end * 1000];
  const timeRange = { from: { valueOf: () => from }, to: { valueOf: () => to } };
  return (
    <TimeSeries
      frames={frames}
      width={width}
      height={height}
      timeRange={timeRange}
      timeZone="utc"
      legend={panel.options.legend}
    />
  );
}

function Rows({ frames, panel, width, height }) {
  const theme = useTheme2();
  const [table, setTable] = useState();
  useEffect(() => {
    const transform = transformDataFrame(panel.transformations ?? [], frames);
    lastValueFrom(transform).then(([joined]) => setTable(configured([joined], panel, theme)[0]));
  }, [frames, panel, theme]);
  return table ? <Table data={table} width={width} height={height} showTypeIcons={false} cellHeight={panel.options.cellHeight} /> : null;
}

/** Which component draws a panel. */
export const COMPONENTS = { stat: Stat, bargauge: Bars, timeseries: Series, table: Rows };
