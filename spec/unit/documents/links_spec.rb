# frozen_string_literal: true

RSpec.describe "Links between documents" do
  documents = Dir["{.,docs,db,ext}/*.md"].map { |path| path.delete_prefix("./") }

  def anchors(path)
    File.read(path).scan(/^#+ (.*)/).flatten.map do |title|
      title.downcase.delete("`").gsub(/[^\w\- ]/, "").tr(" ", "-")
    end
  end

  documents.each do |document|
    it "lead from #{document} to existing files and headings" do
      links = File.read(document).scan(/\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)/).reject do |path, _|
        path.end_with?("security/advisories/new")
      end
      broken = links.reject do |path, anchor|
        target = path.empty? ? document : File.join(File.dirname(document), path)
        File.exist?(target) && (anchor.empty? || anchors(target).include?(anchor))
      end
      expect(broken.map { |link| link.join("#") }).to eq []
    end
  end
end
