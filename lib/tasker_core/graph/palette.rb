# frozen_string_literal: true

module TaskerCore
  class Graph
    # The colours of SVG and Mermaid drawings. Each box has its own background, so that its text is readable on light
    # and dark pages; the grey of the lines is visible on both.
    #
    # @api private
    module Palette
      INK = "#1f2328"
      LINE = "#768390"
      Colours = Struct.new(:ground, :border)
      STATES = {
        "complete" => Colours.new("#dafbe1", "#1a7f37"), "resolved_manually" => Colours.new("#d3f3ec", "#0f766e"),
        "error" => Colours.new("#ffebe9", "#cf222e"), "cancelled" => Colours.new("#d8dee4", "#57606a"),
        "in_progress" => Colours.new("#cdeaff", "#0969da"), "ready" => Colours.new("#f3e3ff", "#8250df"),
        "waiting" => Colours.new("#fff4b0", "#9a6700"), "pending" => Colours.new("#ffffff", "#8c959f"),
        nil => Colours.new("#f6f8fa", "#57606a")
      }.freeze
      private_constant :Colours
    end
  end
end
