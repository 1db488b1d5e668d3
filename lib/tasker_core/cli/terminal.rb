# frozen_string_literal: true

module TaskerCore
  class CLI
    # The output device: it has colours and a width if it is a terminal, and no colours with NO_COLOR.
    #
    # @api private
    class Terminal
      COLOURS = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, blue: 34, cyan: 36 }.freeze
      STATES = { "pending" => :dim, "ready" => :cyan, "in_progress" => :blue, "waiting" => :yellow,
                 "complete" => :green, "error" => :red, "cancelled" => :dim, "resolved_manually" => :green,
                 "ok" => :green, "warning" => :yellow }.freeze
      private_constant :COLOURS

      # @return [Integer, nil] columns
      attr_reader :width

      # @param out [IO, StringIO]
      def initialize(out, environment: ENV)
        columns = out.tty? && out.respond_to?(:winsize) ? out.winsize.last : 0
        @width = columns if columns.positive?
        @coloured = out.tty? && environment["NO_COLOR"].to_s.empty? && environment["TERM"] != "dumb"
      end

      # @param colour [Symbol, nil]
      def paint(text, colour) = @coloured && colour ? "\e[#{COLOURS.fetch(colour)}m#{text}\e[0m" : text

      # @param state [String] of a step or a task, or a severity
      def paint_state(state, text = state) = paint(text, STATES[state])

      # @param node [TaskerCore::Graph::Node]
      # @return [String] its line in the graph's text
      def node(node) = paint_state(node.state, fitting(TaskerCore::Graph::Text.line(node)))

      # @return [String] a line, truncated to the terminal's width
      def fitting(line) = width ? line.truncate(width, omission: "…") : line
    end
  end
end
