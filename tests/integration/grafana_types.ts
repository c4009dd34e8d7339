// What a dashboard of ours is, in the types that Grafana publishes. Put before the dashboards themselves (test_dashboard_types.py).
import type { AnnotationQuery, Dashboard, DataQuery, FieldConfig, Panel, RowPanel } from '@grafana/schema';
import type * as heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as stateTimeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// A type as JSON has it: the words of an enumeration in its place.
type Json<T> = T extends string ? `${T}` : T extends object ? { [Key in keyof T]: Json<T[Key]> } : T;

// Of the plug-in for Prometheus, which publishes no types.
type PrometheusQuery = DataQuery & { expr: string; legendFormat?: string; format?: 'time_series' | 'heatmap'; interval?: string };
type Of<Type, Options, Custom = never> = Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'> & {
  type: Type;
  options: Options;
  fieldConfig: { defaults: Omit<FieldConfig, 'custom'> & { custom?: Custom }; overrides: never[] };
  targets: PrometheusQuery[];
};
type OurPanel = RowPanel | Of<'timeseries', timeseries.Options, timeseries.FieldConfig> | Of<'stat', stat.Options>
  | Of<'heatmap', heatmap.Options, heatmap.FieldConfig> | Of<'state-timeline', stateTimeline.Options, stateTimeline.FieldConfig>;
type OurAnnotation = AnnotationQuery<PrometheusQuery> & { titleFormat?: string };
export type OurDashboard = Json<Omit<Dashboard, 'panels' | 'annotations'> & { panels: OurPanel[]; annotations: { list: OurAnnotation[] } }>;
