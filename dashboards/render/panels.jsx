// The panels of a dashboard, from the parts that Grafana is made of. What is shown is in window.shown (render.py).
import { createTheme, dateTime, FieldType, getDisplayProcessor, getValueFormat, standardEditorsRegistry, standardFieldConfigEditorRegistry, ThemeContext, toDataFrame } from '@grafana/data';
import { BigValue, TimeSeries } from '@grafana/ui';
import React from 'react';
import { createRoot } from 'react-dom/client';

const { board, width, row } = window.shown;
const theme = createTheme({ colors: { mode: 'dark' } });
const HEADER = 32;

// All series of a panel over the same times; where one has no value there is a gap.
function frameOf(panel) {
  const times = [...new Set(panel.series.flatMap((one) => one.points.map(([time]) => time)))].sort((a, b) => a - b);
  const { defaults } = panel.fieldConfig;
  const fields = [{ name: 'time', type: FieldType.time, values: times.map((time) => time * 1000), config: {} }];
  panel.series.forEach((one, index) => {
    const at = new Map(one.points.map(([time, value]) => [time, Number(value)]));
    const values = times.map((time) => (Number.isFinite(at.get(time)) ? at.get(time) : null));
    const config = { ...defaults, displayName: one.name || panel.title, color: { mode: 'palette-classic' } };
    fields.push({ name: one.name || panel.title, type: FieldType.number, values, config, labels: {}, state: { seriesIndex: index } });
  });
  const frame = toDataFrame({ fields });
  frame.fields.forEach((field) => (field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' })));
  return frame;
}

function Lines({ panel, size }) {
  const frame = frameOf(panel);
  const times = frame.fields[0].values;
  const range = { from: dateTime(times[0]), to: dateTime(times[times.length - 1]) };
  return <TimeSeries frames={[frame]} structureRev={1} {...size} timeZone="utc" legend={panel.options.legend} options={panel.options}
    timeRange={{ ...range, raw: range }} />;
}

function Stat({ panel, size }) {
  const { defaults } = panel.fieldConfig;
  const points = panel.series[0].points.map(([, value]) => Number(value));
  const display = getDisplayProcessor({ field: { type: FieldType.number, config: { ...defaults, color: { mode: 'thresholds' } } }, theme });
  const value = display(points[points.length - 1]);
  const sparkline = { y: { name: 'y', type: FieldType.number, values: points, config: { min: 0 } } };
  return <BigValue value={value} sparkline={sparkline} theme={theme} colorMode="value" graphMode="area" {...size} />;
}

// Cells as dark as they are full; a row for each bucket that is not always empty.
function Heat({ panel, size }) {
  const buckets = panel.series.map((one) => ({ ...one, bound: Number(one.labels.le) })).sort((a, b) => a.bound - b.bound);
  const counts = buckets.map((one, i) => one.points.map(([, value], k) => Math.max(0, Number(value) - (i > 0 ? Number(buckets[i - 1].points[k][1]) : 0))));
  const shown = buckets.map((_, i) => i).filter((i) => counts[i].some((count) => count > 0)).reverse();
  const most = Math.max(...counts.flat(), 1);
  const format = getValueFormat(panel.options.yAxis.unit);
  const word = (bound) => (Number.isFinite(bound) ? `${format(bound).text}${format(bound).suffix ?? ''}` : '+Inf');
  return <div style={size}>{shown.map((i) => <div key={i} style={{ display: 'flex', height: size.height / shown.length, alignItems: 'center' }}>
    <span style={{ width: 56, fontSize: 11, color: theme.colors.text.secondary }}>{word(buckets[i].bound)}</span>
    {counts[i].map((count, k) => <span key={k} style={{ flex: 1, height: '92%', background: `rgba(255, 120, 10, ${Math.sqrt(count / most)})` }} />)}
  </div>)}</div>;
}

// A bar for each series, in the colours of its values.
function States({ panel, size }) {
  const colors = panel.fieldConfig.defaults.mappings[0].options;
  return <div style={size}>{panel.series.map((one, i) => <div key={i} style={{ display: 'flex', height: Math.min(34, size.height / panel.series.length), alignItems: 'center' }}>
    <span style={{ width: 200, fontSize: 12, color: theme.colors.text.secondary }}>{one.name}</span>
    {one.points.map(([, value], k) => <span key={k} style={{ flex: 1, height: '80%', background: theme.visualization.getColorByName(colors[value].color), opacity: 0.7 }} />)}
  </div>)}</div>;
}

const KINDS = { timeseries: Lines, stat: Stat, heatmap: Heat, 'state-timeline': States };

function Panel({ panel }) {
  const cell = width / 24;
  const { x, y, w, h } = panel.gridPos;
  const place = { position: 'absolute', left: x * cell + 4, top: y * row + 60, width: w * cell - 8, height: h * row - 8, boxSizing: 'border-box' };
  if (panel.type === 'row') return <div style={{ ...place, fontSize: 15, fontWeight: 500, paddingTop: 6 }}>{panel.title}</div>;
  const Kind = KINDS[panel.type];
  const size = { width: w * cell - 28, height: h * row - 8 - HEADER - 10 };
  return <div style={{ ...place, background: theme.colors.background.primary, border: `1px solid ${theme.colors.border.weak}`, borderRadius: 3 }}>
    <div style={{ height: HEADER, padding: '8px 10px', fontSize: 14, fontWeight: 500, boxSizing: 'border-box' }}>{panel.title}</div>
    <div style={{ padding: '0 10px' }}>{panel.series.length > 0 ? <Kind panel={panel} size={size} /> : 'No data'}</div>
  </div>;
}

standardEditorsRegistry.setInit(() => []);
standardFieldConfigEditorRegistry.setInit(() => []);
document.body.style.cssText = `margin: 0; background: ${theme.colors.background.canvas}; color: ${theme.colors.text.primary}; font-family: Inter, Helvetica, Arial, sans-serif; width: ${width}px`;
createRoot(document.body.appendChild(document.createElement('div'))).render(<ThemeContext.Provider value={theme}>
  <h1 style={{ fontSize: 22, fontWeight: 400, margin: 0, padding: '16px 12px' }}>{board.title}</h1>
  {board.panels.map((panel) => <Panel key={panel.id} panel={panel} />)}
</ThemeContext.Provider>);
