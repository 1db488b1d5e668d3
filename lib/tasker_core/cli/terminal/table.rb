# frozen_string_literal: true

module TaskerCore
  class CLI
    # @api private
    class Terminal
      # Rows below headings, within the width of the terminal.
      class Table
        # `shrinks`: whether it shrinks if the terminal is too narrow. `optional`: whether it is omitted if that does
        # not suffice, the last one first. `states`: whether its texts are states.
        Column = Struct.new(:heading, :shrinks, :optional, :states, keyword_init: true)

        GAP = "  "
        NARROWEST = 8
        private_constant :GAP, :NARROWEST

        # @param terminal [Terminal]
        # @param columns [Array<Column>]
        def initialize(terminal, columns)
          @terminal = terminal
          @columns = columns
        end

        # @param rows [Array<Array<#to_s>>]
        # @return [Array<String>] lines
        def lines(rows)
          rows = rows.map { |row| row.map { |cell| Support::VisibleText.line(cell) } }
          headings = @columns.map(&:heading)
          widths = fitting([headings, *rows].transpose.map { |cells| cells.map(&:size).max })
          lines = rows.map { |row| line(row, widths) { |*cell| painted(*cell) } }
          [@terminal.paint(line(headings, widths), :dim), *lines]
        end

        private

        # @return [Array<Integer, nil>] nil for an omitted column
        def fitting(widths)
          narrower = shrunk(widths)
          return narrower unless excess(narrower).positive?

          last = @columns.each_index.select { |index| @columns[index].optional && widths[index] }.last
          last ? fitting(widths.dup.tap { |fewer| fewer[last] = nil }) : narrower
        end

        def excess(widths)
          widths = widths.compact
          widths.sum + (GAP.size * (widths.size - 1)) - (@terminal.width || Float::INFINITY)
        end

        def shrunk(widths)
          excess = excess(widths)
          widths.zip(@columns).map do |width, column|
            next width unless width && column.shrinks && excess.positive?

            (width - excess).clamp([NARROWEST, width].min, width).tap { |narrower| excess -= width - narrower }
          end
        end

        # Adds colours after the layout, as they have no width.
        def line(cells, widths)
          laid_out = cells.zip(widths).map { |text, width| width && text.truncate(width, omission: "…").ljust(width) }
          laid_out.zip(@columns).select(&:first).map do |text, column|
            block_given? ? yield(text, column) : text
          end.join(GAP).rstrip
        end

        def painted(text, column) = column.states ? @terminal.paint_state(text.rstrip, text) : text
      end
    end
  end
end
