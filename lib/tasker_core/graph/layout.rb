# frozen_string_literal: true

module TaskerCore
  class Graph
    # The positions of a drawing's boxes and lines: one column for each level, ordered to reduce crossings (barycentre
    # sweeps), with heights as close to the neighbours' as the order allows.
    #
    # A line over several levels has a place in each column that it passes, so that it never runs behind a box. These
    # places form the rail of a step, which all its distant children share. The work stays proportional to boxes, rails
    # and lines, so the result is not optimal; if a graph would have too many rails, its long lines are drawn straight.
    #
    # @api private
    class Layout
      # A box, or a rail's place in a column (without a node). `y` is its centre.
      Place = Struct.new(:node, :level, :width, :height, :before, :after, :rank, :x, :y, keyword_init: true) do
        def right = x + width
      end

      SWEEPS = 4
      GUTTER = 48.0
      GAP = 14.0
      MARGIN = 12.0
      MOST_RAILS = 20_000
      private_constant :SWEEPS, :GUTTER, :GAP, :MARGIN, :MOST_RAILS

      # @return [Array<Place>] the boxes, in the nodes' order
      attr_reader :boxes

      # @return [Float] of the drawing
      attr_reader :width, :height

      # @param graph [Graph]
      # @yieldparam node [Node]
      # @yieldreturn [Array(Numeric, Numeric)] width and height of its box
      def initialize(graph, &size)
        @boxes = graph.nodes.map { |node| place(node, node.level, *size.call(node)) }
        @columns = @boxes.group_by(&:level).sort.map(&:last)
        connect(@boxes.to_h { |box| [box.node.name, box] })
        order
        place_columns
        place_rows
      end

      # @return [Array<Place>] boxes and rails' places, from which lines start
      def places = @columns.flatten(1)

      private

      def place(node, level, width, height)
        Place.new(node: node, level: level, width: width, height: height, before: [], after: [])
      end

      def connect(by_name)
        children = Hash.new { |hash, parent| hash[parent] = [] }.compare_by_identity
        @boxes.each { |box| box.node.dependencies.each { |parent| children[by_name[parent]] << box } }
        rails = children.sum { |parent, far| [far.map(&:level).max - parent.level - 1, 0].max }
        children.each do |parent, boxes|
          rails > MOST_RAILS ? boxes.each { |box| link(parent, box) } : lead(parent, boxes)
        end
      end

      def lead(parent, children)
        rail = [parent]
        children.sort_by(&:level).each do |child|
          rail << extend_rail(rail.last) while rail.last.level < child.level - 1
          link(rail[child.level - 1 - parent.level], child)
        end
      end

      def extend_rail(last)
        place(nil, last.level + 1, 0.0, 0.0).tap do |place|
          @columns[place.level] << place
          link(last, place)
        end
      end

      def link(from, to)
        from.after << to
        to.before << from
      end

      def order
        @columns.each { |column| rank(column) }
        SWEEPS.times do
          @columns.drop(1).each { |column| sort(column, :before) }
          @columns.reverse.drop(1).each { |column| sort(column, :after) }
        end
      end

      def rank(column) = column.each_with_index { |place, rank| place.rank = rank }

      # A place without neighbours on that side keeps its rank.
      def sort(column, side)
        column.sort_by! do |place|
          neighbours = place[side]
          [neighbours.empty? ? place.rank : neighbours.sum(&:rank).fdiv(neighbours.size), place.rank]
        end
        rank(column)
      end

      def place_columns
        x = MARGIN
        @columns.each do |column|
          width = column.map(&:width).max
          column.each { |place| place.x = x and place.width = width }
          x += width + GUTTER
        end
        @width = x - GUTTER + MARGIN
      end

      def place_rows
        @columns.each { |column| stack(column) { 0.0 } }
        [:before, :after, :before, nil].each do |side|
          (side == :after ? @columns.reverse : @columns).each do |column|
            stack(column) { |place| preferred_y(place, side) }
          end
        end
        top = places.map { |place| place.y - (place.height / 2) }.min - MARGIN
        places.each { |place| place.y -= top }
        @height = places.map { |place| place.y + (place.height / 2) }.max + MARGIN
      end

      def preferred_y(place, side)
        neighbours = side ? place[side] : place.before + place.after
        neighbours.empty? ? place.y : neighbours.sum(&:y) / neighbours.size
      end

      # Sets heights as close to the preferred ones as order and gaps allow, by least squares: neighbours whose
      # preferred heights contradict the order form a block at the mean of these heights.
      def stack(column)
        offsets = column.each_cons(2).inject([0.0]) do |sums, (upper, lower)|
          sums << (sums.last + ((upper.height + lower.height) / 2) + GAP)
        end
        blocks = []
        column.zip(offsets) do |place, offset|
          blocks << [yield(place) - offset, 1]
          blocks << joined(*blocks.pop(2)) while blocks.size > 1 && blocks[-2].first > blocks[-1].first
        end
        heights = blocks.flat_map { |height, count| [height] * count }
        column.each_with_index { |place, number| place.y = heights[number] + offsets[number] }
      end

      def joined(upper, lower)
        count = upper.last + lower.last
        [((upper.first * upper.last) + (lower.first * lower.last)) / count, count]
      end
    end
  end
end
