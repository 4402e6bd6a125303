"""1: tissue_segmentation_simple is a plain function"""

import pipeline
import solutions.pipeline_prefect as right

right.tissue_segmentation_simple = pipeline.tissue_segmentation_simple
define_flow = right.define_flow
