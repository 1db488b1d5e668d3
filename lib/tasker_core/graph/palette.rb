# frozen_string_literal: true

module TaskerCore
  class Graph
    # The colours of both drawings. Each box has a ground of its own, so that its text can be read on a light page and on a dark
    # one; lines between boxes are of a grey that stands out from both.
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
